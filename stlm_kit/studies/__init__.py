"""One folder a source document: what it claims, the runs that answer, and what only this source needs.

study.yaml       where it comes from, its runs, its claims (reproduce/study_file.py explains the keys)
evidence.yaml    numbers read off its public result files, with the commit they were read at
*.py             answers (ledger/answers.py); every module of the folder is imported when the ledger is read
"""
