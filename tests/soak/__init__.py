"""Mixed load on the real service while it is damaged: what is answered, refused, lost or wrong."""
