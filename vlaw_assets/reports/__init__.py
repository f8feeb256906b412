"""What people read: success tables, plots, the audit's page, a study's report."""
