"""Studies: methods compared in settings over seeds, at equal budgets and against random choice."""
