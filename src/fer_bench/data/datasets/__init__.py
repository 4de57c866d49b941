"""One module or package a dataset. Each registers itself by being here."""
