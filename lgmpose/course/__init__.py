"""What the lessons need besides the package: checks and the site."""
