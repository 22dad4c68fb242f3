"""The paper, a file for each algorithm and definition: the formula, then plain code for it.

Nothing here is fast. What the library runs says the same quicker, and each file names it: a test
holds the two equal.
"""
