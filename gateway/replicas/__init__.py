"""Which of several generators a request goes to."""
