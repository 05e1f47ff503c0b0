"""What Airflow's audit log says of tasks of a DAG that ended without having run: python audit_log.py DAG, beside its database."""

import sqlite3
import sys

QUERY = "select extra from log where event = 'state mismatch' and dag_id = ?"
print(sqlite3.connect("airflow.db", timeout=30).execute(QUERY, (sys.argv[1],)).fetchall())
