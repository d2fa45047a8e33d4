"""Analysis of runs: summary statistics, confidence intervals, paired comparisons, tables."""
