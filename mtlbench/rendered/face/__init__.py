"""One face: what it shows, who sits for it, and how each part is drawn; `picture.draw_face` puts them together."""
