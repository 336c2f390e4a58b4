# The hosts' inferencers load a checkpoint before they build a model: what loading needs is imported
# with the config.
custom_imports = dict(imports=['mmvitx'])
