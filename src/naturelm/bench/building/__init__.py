"""BEANS-Zero built from what it was made of: the prepared BEANS data sets, and recordings of archives."""
