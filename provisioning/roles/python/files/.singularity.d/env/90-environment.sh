# The virtual environment first, whatever the caller's PATH was.
export PATH="/venv/bin:${PATH:-/usr/local/bin:/usr/bin:/bin}"
export VIRTUAL_ENV=/venv
export PYTHONDONTWRITEBYTECODE=1
