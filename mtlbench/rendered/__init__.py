"""Image sets that the project draws itself, in the official layouts of the data sets that they stand in for.

`kinds` says what can be drawn, `marks` tells a drawn set from photographs. Neither loads the code that draws.
"""
