// Gradients of activation functions: none, browsers do not train.
const none = undefined as never;

export {
  none as celuGradient,
  none as eluGradient,
  none as geluGradient,
  none as hardSigmoidGradient,
  none as hardSwishGradient,
  none as leakyGradient,
  none as mishGradient,
  none as preluGradient,
  none as reluGradient,
  none as seluGradient,
  none as shrinkGradient,
  none as softplusGradient,
  none as softsignGradient,
  none as swishGradient,
  none as thresholdedGradient,
};
