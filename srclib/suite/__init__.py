"""Running notebooks, checking and publishing what they say, building the book."""
