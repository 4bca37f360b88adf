"""GenEval (arXiv 2310.11513): does a picture show the objects, counts, colours and positions its prompt asks for?

``reward`` is the reward, ``protocol`` the rules, ``detectors`` and ``colors`` what they judge by, each behind a name;
``python -m rewards.geneval evaluate FOLDER`` scores a folder in the official layout.
"""
