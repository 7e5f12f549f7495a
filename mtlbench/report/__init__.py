"""Tables, figures, galleries and pages, made from run records alone; nothing trains, only galleries need torch."""
