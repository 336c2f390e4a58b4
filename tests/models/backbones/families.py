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
    'cait': dict(
        type='mmvitx.CaiT', arch=dict(embed_dim=24, depth=5, num_heads=3), window_size=None
    ),
    'cait_windowed': dict(
        type='mmvitx.CaiT',
        arch=dict(embed_dim=16, depth=4, num_heads=2),
        window_size=3,
        num_global_blocks=2,
    ),
    'crossvit': dict(
        type='mmvitx.CrossViT',
        arch=dict(
            embed_dims=(16, 32), depths=(1, 2, 0), num_heads=(2, 2), mlp_ratios=(2, 2), num_blocks=2
        ),
        img_size=96,
    ),
}

# Side in pixels of a model's finest patches, in which places cannot be told apart; 4 if not here.
PATCH_SIZES = {'cait': 16, 'cait_windowed': 16, 'crossvit': 12}

# Parameters that have no effect, so an exact zero for their gradient: a bias that adds the same to
# all scores of a softmax. Endings of their names.
NO_EFFECT = ('attn.proj_l.bias', 'attn.k.bias')

# Published models for the numerics, by the name of their parity file -> the kind of its runs that
# puts out what the dense tasks build on.
PUBLISHED = {
    'coat_lite_tiny': 'pyramid',
    'coat_tiny': 'pyramid',
    'cait_XXS24_224': 'patch_tokens',
    'crossvit_9_224': 'branch_tokens',
}
