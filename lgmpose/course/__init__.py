"""The course: run the lessons, build the web pages, check the exercises."""
