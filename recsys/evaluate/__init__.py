"""Full-catalogue evaluation of ranked lists: metrics, segments, baselines, intervals and the report."""
