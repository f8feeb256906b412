"""The report of a study: one Markdown file with pictures beside it, every number asked of the lake by
`sql/study_*.sql`.

    facts.py     the answers of the questions, and which runs are missing
    paper.py     the numbers of the VLAW paper, from paper.toml
    compare.py   paired comparison of two policies of a study
    text.py      tables and figures as text
    gate.py      one gate of section 1, measured or not; gates_inside.py has those of what is imagined
    ran.py, gates.py, success.py, arms.py, models.py, judge.py, ranks.py, claims.py   the sections
    write.py     all together, and the files

An empty cell is empty because nothing was measured; a section says which runs it lacks.
"""
