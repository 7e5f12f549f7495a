"""Image sets that the project draws, in the official layouts of the data sets that they replace.

`kinds` lists what can be drawn, and `marks` tells a drawn set from photographs. Neither loads the code that draws.
"""
