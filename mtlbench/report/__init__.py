"""Tables (and later figures and pages) made from run records alone; nothing here trains."""
