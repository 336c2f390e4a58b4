# What all segmentors share. Images are padded with zeros at the right and at the bottom, labels
# with 255 (ignored): in training to the crop, in tests to a multiple of the coarsest stride, so
# that the maps of all levels lie on one grid; the padding of a prediction is cut off.
padding = dict(size=(512, 512), test_cfg=dict(size_divisor=32))

# Whole images are tested; --cfg-options model.test_cfg.mode=slide takes windows that overlap by a
# third, as mmseg's configs of MAE and BEiT do.
windows = dict(mode='whole', crop_size=(512, 512), stride=(341, 341))
