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
    'crossvit': dict(
        type='mmvitx.CrossViT',
        arch=dict(
            embed_dims=(16, 32), depths=(1, 2, 0), num_heads=(2, 2), mlp_ratios=(2, 2), num_blocks=2
        ),
        img_size=96,
    ),
}

# Families whose maps are the tokens that ``raw`` puts out.
MAPS_ARE_TOKENS = ('coat_lite', 'coat')

# Published models for the numerics, by the name of their parity file: the kind of run in it.
PUBLISHED = {
    'coat_lite_tiny': 'pyramid',
    'coat_tiny': 'pyramid',
    'crossvit_9_224': 'branch_tokens',
}

# Parameters that have an effect on nothing, so that their gradient is zero: a bias of the keys in
# an attention of one query, which the softmax takes away.
WITHOUT_EFFECT = r'.*\.fusion\.\d+\.attn\.k\.bias'
