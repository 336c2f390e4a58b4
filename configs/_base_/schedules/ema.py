# DeiT's moving average of the weights, 0.99996. The figures that its followers report, and their
# published weights, are those of the model itself, so that is evaluated; a checkpoint holds the
# average as `state_dict` and the model as `ema_state_dict` (mmengine swaps them, and knows it).
custom_hooks = [
    dict(
        type='EMAHook',
        momentum=1 - 0.99996,
        evaluate_on_ema=False,
        evaluate_on_origin=True,
        priority='ABOVE_NORMAL',
    )
]
