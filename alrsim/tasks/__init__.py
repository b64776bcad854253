"""Tasks, the buffers that they write and read, and the problem of placing and ordering them."""
