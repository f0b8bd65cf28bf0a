"""What each paper brings: a method is one module or package, and none imports another."""
