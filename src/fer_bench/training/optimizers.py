"""Optimizers, built from a stage: layer-wise learning rates, weight decay and a fused Adam."""

from typing import Any

import keras
import tensorflow as tf

from fer_bench.config.training import Stage, Training
from fer_bench.models.build import backbone_layers
from fer_bench.models.freezing import layer_scales

Pairs = list[tuple[Any, Any]]


class FusedAdam(keras.optimizers.Adam):
    """`keras.optimizers.Adam` (Kingma and Ba, 2015) without `amsgrad`, its update one kernel."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable and its two moments in one pass."""
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(self._momentums[index]),
            v=_handle(self._velocities[index]),
            beta1_power=tf.pow(tf.cast(self.beta_1, variable.dtype), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, variable.dtype), step),
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, variable.dtype),
        )


def _handle(variable: Any) -> Any:
    """The resource behind a Keras or TensorFlow variable."""
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle


def scales(model: Any, stage: Stage) -> list[float]:
    """The factor on the learning rate of each of `model.trainable_variables`; 1 after the backbone.

    See `layer_scales`.
    """
    of_variable = {
        id(variable): scale
        for layer, scale in zip(backbone_layers(model), layer_scales(model, stage), strict=True)
        for variable in layer.trainable_variables
    }
    return [of_variable.get(id(variable), 1.0) for variable in model.trainable_variables]


class StageOptimizer(keras.optimizers.Optimizer):
    """Mixed into a Keras optimizer: a learning rate and a weight decay per variable.

    The update of each optimizer in `_OPTIMIZERS` is proportional to the learning rate, so a scaled
    rate is a scaled update. A scaled gradient would not be: Adam and RMSprop divide the gradient by
    its own size.

    Uses private methods of Keras 3.15: `_get_variable_index`, `_clip_gradients`,
    `_all_reduce_sum_gradients` and Adam's `_momentums` and `_velocities`. The tests of this module
    and `test_two_devices_do_what_one_does` fail when Keras calls them differently.

    Attributes:
        scales: factor on the learning rate of each variable, in the order given to `build`.
        decays: decoupled weight decay of each (Loshchilov and Hutter, 2019): the update first
            subtracts `learning rate * decay` times the variable.
    """

    scales: tuple[float, ...]
    decays: tuple[float, ...]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable; Keras calls it for each, with the learning rate of the head."""
        index = self._get_variable_index(variable)
        rate = keras.ops.cast(learning_rate, variable.dtype) * self.scales[index]
        if self.decays[index]:
            self.assign_sub(variable, variable * (self.decays[index] * rate))
        super().update_step(gradient, variable, rate)

    def _clip_gradients(self, grads: list[Any]) -> list[Any]:
        """Nothing yet: on several devices these are gradients of a part of the batch."""
        return grads

    def _all_reduce_sum_gradients(self, grads_and_vars: Pairs) -> Pairs:
        """The gradients of the whole batch, clipped by their global norm."""
        gradients, variables = zip(*super()._all_reduce_sum_gradients(grads_and_vars), strict=True)
        return list(zip(super()._clip_gradients(list(gradients)), variables, strict=True))


# AdamW is Adam with decoupled weight decay, which here every optimizer has.
_OPTIMIZERS = {
    "adam": FusedAdam,
    "adamw": FusedAdam,
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
}

# Only kernels decay; these variables shift and scale what a layer computes.
_NOT_DECAYED = ("bias", "gamma", "beta")


def build_optimizer(stage: Stage, training: Training, *, precision: str, model: Any) -> Any:
    """A new Keras optimizer for `stage`, built for `model` as `set_trainable` left it.

    Its `learning_rate` is that of the head; `layer_decay` scales the updates of the other layers.
    The gradient of the whole batch is clipped by its global norm first. With float16 the optimizer
    scales the loss, and skips a step whose gradient is not finite.
    """
    kind = _OPTIMIZERS[stage.optimizer or training.optimizer]
    options: dict[str, Any] = {"global_clipnorm": _setting("gradient_clip", stage, training)}
    if kind is keras.optimizers.SGD:
        momentum = _setting("momentum", stage, training)
        options |= {"momentum": momentum, "nesterov": momentum > 0}
    optimizer = type(kind.__name__, (StageOptimizer, kind), {})(stage.learning_rate, **options)
    variables = model.trainable_variables
    weight_decay = _setting("weight_decay", stage, training)
    optimizer.scales = tuple(scales(model, stage))
    optimizer.decays = tuple(0.0 if v.name in _NOT_DECAYED else weight_decay for v in variables)
    if precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer


def _setting(key: str, stage: Stage, training: Training) -> Any:
    """The stage's own value of `key`, or that of the training."""
    own = getattr(stage, key)
    return getattr(training, key) if own is None else own
