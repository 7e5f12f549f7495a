"""One face: its attributes, the person who sits for it, and its parts; `picture.draw_face` puts them together."""
