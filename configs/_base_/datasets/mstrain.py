# The multi-scale augmentation of DETR and Sparse R-CNN, with which CoaT's authors train detectors
# (tasks/mmdet/configs/coat/ of mlpc-ucsd/CoaT): the short side 480 to 800, or a crop of 384 to 600
# pixels out of a short side of 400 to 600, taken to 480 to 800 again; the long side 1333 at most.
resize = dict(
    type='RandomChoiceResize',
    scales=[(side, 1333) for side in range(480, 801, 32)],
    keep_ratio=True,
)
mstrain = [
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomChoice',
        transforms=[
            [resize],
            [
                dict(
                    type='RandomChoiceResize',
                    scales=[(400, 1333), (500, 1333), (600, 1333)],
                    keep_ratio=True,
                ),
                dict(
                    type='RandomCrop',
                    crop_type='absolute_range',
                    crop_size=(384, 600),
                    allow_negative_crop=True,
                ),
                resize,
            ],
        ],
    ),
]
