"""Who may use the review page, and what each of them may do."""
