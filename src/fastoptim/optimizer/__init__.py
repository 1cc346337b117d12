"""What every optimizer has: hyperparameters, groups, state, look-ahead, its plan of an update."""
