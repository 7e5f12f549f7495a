"""Image sets that the project draws itself, in the official layouts of the datasets they stand in for."""
