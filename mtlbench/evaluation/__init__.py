"""Everything that decides a score, from embeddings and labels; no setting of training plays a part."""
