"""One shoe: its labels, foot, colours and parts; `picture.draw_shoe` puts them together."""
