"""A guest book in Python that keeps its entries in /data."""
import sqlite3

from flask import Flask, jsonify, request

app = Flask(__name__)


def database():
    entries = sqlite3.connect("/data/guestbook.db", timeout=10)
    entries.execute("create table if not exists entries (name text not null)")
    return entries


@app.get("/")
def entries():
    with database() as entries:
        return jsonify([name for (name,) in entries.execute("select name from entries order by rowid")])


@app.post("/")
def sign():
    with database() as entries:
        entries.execute("insert into entries values (?)", (request.form["name"],))
    return "", 201
