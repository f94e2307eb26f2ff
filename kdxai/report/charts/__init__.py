"""Every chart of a report: functions from tables to a `chart.Chart`, a file for each subject."""
