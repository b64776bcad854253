"""Fast kernels of the gradient: noise that is never stored, and the weighted product of input codes and noise.

How a gradient task uses them, in the two reductions:

``accumulate``: nothing but losses is kept. The cotangent of a value is the losses' weighted sum of noise that is made
again, then one local VJP gives the gradient::

    key = PhiloxKey(seed, step, stage, value)
    forward = perturbed(clean[None], sigma, key, copies, samples, kind)        # (copies, samples, *shape)
    cotangent = accumulate_noise(zeros(samples, *shape), weights, key, copies, samples, kind, threads=n)

``copies`` and ``samples`` are ranges: samples count over the whole step, whatever micro-batch they are in. Noise on
parameters is one vector per copy, that of ``samples = range(1)``: ``weights`` is then ``(copies, 1)``.

``stack``: codes of the linear map's input and of the noise are kept, and multiplied when the losses are known::

    name = choose(Case(shape, copies, samples, inputs="binary", noise="sign", threads=n))   # measured once per host
    kernel = PRODUCTS[name]
    x = kernel.keep_input(codes, shape, "binary")       # (copies * samples, *as the map reads it)
    e = kernel.keep_noise(signs, shape, "sign")         # (copies * samples, *as the map writes it)
    dw, db = kernel.multiply(x, e, weights, shape, n), kernel.bias(e, weights, shape)

Codes are numbers in any dtype: "binary" (0, 1: a threshold), "bipolar" (-1, 1: a sign), "ternary" (-1, 0, 1: a sign
that keeps zero), "int8" (-127..127) or "real". ``weights`` is ``(copies, samples)``, ``1 / (sigma * copies * batch)``
and scales of the codes included. Rows are copy by copy: row ``copy * samples + sample``.

The kernels are machine code of a CPU. On another device noise is made by torch's own operators with the same bits
(``philox_torch``, or Triton's kernels where they prove to give those: ``device_noise``), and the executor decodes what
was kept and takes torch's product.
"""
