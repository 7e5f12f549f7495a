"""One shoe: its labels, foot and colours, and how each part is drawn; `picture.draw_shoe` puts them together."""
