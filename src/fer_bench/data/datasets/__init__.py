"""One module or package per dataset. Each is found by being here, and registers itself."""
