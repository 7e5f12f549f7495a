"""Jobs: planning which runs there are to do, and doing them."""
