"""The models that the contract is tested on: of each family the cheapest that has all its parts."""

# name -> config of the backbone
SMALL = {
    'coat_lite': dict(
        type='mmvitx.CoaT',
        arch=dict(
            embed_dims=(16, 32, 40, 48),
            serial_depths=(2, 1, 1, 1),
            parallel_depth=0,
            mlp_ratios=(4, 4, 2, 2),
        ),
    ),
    'coat': dict(
        type='mmvitx.CoaT',
        arch=dict(
            embed_dims=(16, 32, 32, 32),
            serial_depths=(1, 2, 1, 1),
            parallel_depth=2,
            mlp_ratios=(4, 2, 2, 2),
        ),
    ),
}

# Published models for the numerics, by the name of their parity file.
PUBLISHED = {
    'coat_lite_tiny': dict(type='mmvitx.CoaT', arch='lite_tiny'),
    'coat_tiny': dict(type='mmvitx.CoaT', arch='tiny'),
}
