"""The embedded tiny model and its world: 64 x 64 pictures of shapes and letters on a 4 x 4 grid."""
