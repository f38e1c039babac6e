"""What results of all rooms share: comparison, how they look in a notebook, and names of their fields.

equality.py     `==` of objects that hold arrays
markup.py       small HTML for notebooks, which reads in light and dark mode
evaluation.py   the base of evaluations: fields, and the same by key as in a dict
cache.py        a Cache
progress.py     bars for long calls, with one switch
"""
