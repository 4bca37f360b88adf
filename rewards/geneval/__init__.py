"""GenEval (arXiv 2310.11513): does a picture show the objects, counts, colours and positions its prompt asks for?"""
