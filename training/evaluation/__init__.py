"""From what a model says of cases to numbers, tables and a report; definitions as in LiTS."""
