"""The pages themselves: they show what `view` says, and call what the console offers."""
