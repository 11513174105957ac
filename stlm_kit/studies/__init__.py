"""One folder for each source document: its claims, the runs that answer them, and code that only this source needs.

study.yaml       the source, its runs and its claims (reproduce/study_file.py explains the keys)
evidence.yaml    numbers from its public result files, with the commit of those files
*.py             answers (ledger/answers.py); every module of the folder is imported when the ledger is read
"""
