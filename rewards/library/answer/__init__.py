"""The ``answer`` reward: are the words that the policy wrote the right ones?"""
