"""The files that `mtlbench new` writes, one for each kind, under the names my-method, MyMethod and my_method.

They are read as text and never imported, but linted and type-checked as all code here is.
"""
