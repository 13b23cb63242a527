"""Loops over pairs with four doubles at a time, which the compiler does not find by itself.

Sites are rows of four doubles, x y z 0, in arrays of shape (n, 4): a row is one load. Each function
is a loop that becomes vector instructions where it is called (AVX, NEON; else pairs of doubles).
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_ROW = ir.VectorType(ir.DoubleType(), 4)
_INT = ir.IntType(64)
_ZERO = ir.Constant(_ROW, [0.0] * 4)
_ONE = ir.Constant(_ROW, [1.0] * 4)


class _Code:
    """Instructions on rows of arrays, in terms of a numba builder."""

    def __init__(self, context, builder, signature, values):
        self.context, self.builder = context, builder
        self.types, self.values = signature.args, values

    def array(self, n):
        return self.context.make_array(self.types[n])(
            self.context, self.builder, self.values[n]
        ).data

    def integer(self, number):
        return ir.Constant(_INT, number)

    def row_pointer(self, array, index, offset=0):
        b = self.builder
        place = b.add(b.mul(index, self.integer(4)), self.integer(offset))
        return b.bitcast(b.gep(array, [place]), _ROW.as_pointer())

    def row(self, array, index):
        value = self.builder.load(self.row_pointer(array, index))
        value.align = 8
        return value

    def set_row(self, array, index, value):
        self.builder.store(value, self.row_pointer(array, index)).align = 8

    def four(self, array, index):
        """Entries index ... index + 3 of an array of numbers."""
        pointer = self.builder.bitcast(self.builder.gep(array, [index]), _ROW.as_pointer())
        value = self.builder.load(pointer)
        value.align = 8
        return value

    def set_four(self, array, index, value):
        pointer = self.builder.bitcast(self.builder.gep(array, [index]), _ROW.as_pointer())
        self.builder.store(value, pointer).align = 8

    def index(self, array, place):
        """Entry of an array of 32-bit indices."""
        return self.builder.zext(self.builder.load(self.builder.gep(array, [place])), _INT)

    def shuffle(self, a, b, lanes):
        return self.builder.shuffle_vector(
            a, b, ir.Constant(ir.VectorType(ir.IntType(32), 4), lanes)
        )

    def spread(self, number):
        """A row of one number."""
        first = self.builder.insert_element(_ZERO, number, ir.Constant(ir.IntType(32), 0))
        return self.shuffle(first, first, [0] * 4)

    def transpose(self, rows):
        a = self.shuffle(rows[0], rows[1], [0, 4, 2, 6])
        b = self.shuffle(rows[0], rows[1], [1, 5, 3, 7])
        c = self.shuffle(rows[2], rows[3], [0, 4, 2, 6])
        d = self.shuffle(rows[2], rows[3], [1, 5, 3, 7])
        low, high = [0, 1, 4, 5], [2, 3, 6, 7]
        pairs = ((a, c, low), (b, d, low), (a, c, high), (b, d, high))
        return [self.shuffle(*pair) for pair in pairs]

    def call(self, name, *arguments):
        kind = ir.FunctionType(_ROW, [_ROW] * len(arguments))
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.{name}.v4f64")
        return self.builder.call(function, arguments)

    def fma(self, a, b, c):
        return self.call("fma", a, b, c)

    def smaller(self, a, b):
        """The lesser of each entry, that of ``b`` where ``a`` is nan."""
        return self.builder.select(self.builder.fcmp_ordered("<", a, b), a, b)

    def larger(self, a, b):
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def loop(self, first, last, step=1):
        return cgutils.for_range_slice(self.builder, first, last, self.integer(step))


def _routine(argument_types, body, result=types.void):
    """Signature and code generator of an intrinsic."""

    def generate(context, builder, signature, values):
        value = body(_Code(context, builder, signature, values))
        return context.get_dummy_value() if value is None else value

    return result(*argument_types), generate


@intrinsic
def separations(typing, positions, i, sites, first, last, block, lattice, d):
    """d[k - block] = minimum image of positions[i] - positions[sites[k]], first <= k < last.

    ``lattice`` (6, 4): the box vectors c, b, a, each as a row, and three rows of 1/c_z, 1/b_y,
    1/a_x. The image is the nearest one up to half of the least height of the box.
    """

    def body(code):
        b = code.builder
        x, s, table, out = code.array(0), code.array(2), code.array(6), code.array(7)
        _, i, _, first, last, block, _, _ = code.values
        mine = code.row(x, i)
        edges = [code.row(table, code.integer(m)) for m in range(3)]
        inverse = [code.row(table, code.integer(m)) for m in range(3, 6)]
        with code.loop(first, last) as (k, _):
            step = b.fsub(mine, code.row(x, code.index(s, k)))
            for lane, edge, scale in zip((2, 1, 0), edges, inverse):
                number = code.shuffle(step, step, [lane] * 4)
                number = code.call("nearbyint", b.fmul(number, scale))
                step = code.fma(b.fneg(number), edge, step)
            code.set_row(out, b.sub(k, block), step)

    return _routine((positions, i, sites, first, last, block, lattice, d), body)


@intrinsic
def straight_separations(typing, positions, i, sites, first, last, block, lattice, d):
    """:func:`separations` in an orthorhombic box; ``lattice`` (2, 4): edges and inverse edges."""

    def body(code):
        b = code.builder
        x, s, table, out = code.array(0), code.array(2), code.array(6), code.array(7)
        _, i, _, first, last, block, _, _ = code.values
        mine = code.row(x, i)
        edge, scale = (code.row(table, code.integer(m)) for m in range(2))
        with code.loop(first, last) as (k, _):
            step = b.fsub(mine, code.row(x, code.index(s, k)))
            number = code.call("nearbyint", b.fmul(step, scale))
            code.set_row(out, b.sub(k, block), code.fma(b.fneg(number), edge, step))

    return _routine((positions, i, sites, first, last, block, lattice, d), body)


@intrinsic
def squares(typing, d, count, r2):
    """r2[k] = |d[k]|^2 for k < count, and up to 3 beyond."""

    def body(code):
        rows, out = code.array(0), code.array(2)
        with code.loop(code.integer(0), code.values[1], 4) as (k, _):
            at = [code.builder.add(k, code.integer(m)) for m in range(4)]
            x, y, z, _w = code.transpose([code.row(rows, place) for place in at])
            total = code.fma(z, z, code.fma(y, y, code.builder.fmul(x, x)))
            code.set_four(out, k, total)

    return _routine((d, count, r2), body)


@intrinsic
def locate(typing, r2, count, origin, scale, last, r, u, row):
    """r = sqrt(r2), its row of a curve (0 ... last) and u in it, for k < count and beyond."""

    def body(code):
        b = code.builder
        squared, distance, place, index = (code.array(n) for n in (0, 5, 6, 7))
        origin, scale, last = (code.spread(code.values[n]) for n in (2, 3, 4))
        shift = b.fneg(b.fmul(origin, scale))
        four_indices = ir.VectorType(ir.IntType(32), 4)
        with code.loop(code.integer(0), code.values[1], 4) as (k, _):
            root = code.call("sqrt", code.four(squared, k))
            x = code.fma(root, scale, shift)
            inside = code.smaller(code.larger(x, _ZERO), last)
            m = b.fptosi(inside, four_indices)
            pointer = b.bitcast(b.gep(index, [k]), four_indices.as_pointer())
            b.store(m, pointer).align = 4
            code.set_four(place, k, b.fsub(x, b.sitofp(m, _ROW)))
            code.set_four(distance, k, root)

    return _routine((r2, count, origin, scale, last, r, u, row), body)


@intrinsic
def slopes(typing, r, u, c0, c1, c2, c3, count, scale, s, energy):
    """s = -U'(r)/r for k < count and up to 3 beyond; adds the sum of all U to energy[0:4]."""

    def body(code):
        b = code.builder
        distance, place, out, total = (code.array(n) for n in (0, 1, 8, 9))
        columns = [code.array(n) for n in range(2, 6)]
        scale = code.spread(b.fneg(code.values[7]))
        two, three = ir.Constant(_ROW, [2.0] * 4), ir.Constant(_ROW, [3.0] * 4)
        zero = code.integer(0)
        energy = cgutils.alloca_once(b, _ROW)
        b.store(code.four(total, zero), energy)
        with code.loop(zero, code.values[6], 4) as (k, _):
            x = code.four(place, k)
            p0, p1, p2, p3 = (code.four(column, k) for column in columns)
            value = code.fma(x, code.fma(x, code.fma(x, p3, p2), p1), p0)
            b.store(b.fadd(b.load(energy), value), energy)
            slope = code.fma(x, code.fma(x, b.fmul(three, p3), b.fmul(two, p2)), p1)
            code.set_four(out, k, b.fdiv(b.fmul(slope, scale), code.four(distance, k)))
        code.set_four(total, zero, b.load(energy))

    return _routine((r, u, c0, c1, c2, c3, count, scale, s, energy), body)


@intrinsic
def look_up(typing, table, row, count, c0, c1, c2, c3):
    """c0[k], c1[k], c2[k], c3[k] = table[row[k]] for k < count, and up to 3 beyond."""

    def body(code):
        rows, index = code.array(0), code.array(1)
        columns = [code.array(n) for n in range(3, 7)]
        with code.loop(code.integer(0), code.values[2], 4) as (k, _):
            at = [code.builder.add(k, code.integer(m)) for m in range(4)]
            found = [code.row(rows, code.index(index, place)) for place in at]
            for column, value in zip(columns, code.transpose(found)):
                code.set_four(column, k, value)

    return _routine((table, row, count, c0, c1, c2, c3), body)


@intrinsic
def add_forces(typing, d, s, sites, first, last, block, i, forces):
    """Add s[k] d[k] to forces[i], subtract it from forces[sites[k + block]]."""

    def body(code):
        b = code.builder
        rows, factor, s, out = code.array(0), code.array(1), code.array(2), code.array(7)
        _, _, _, first, last, block, i, _ = code.values
        total = cgutils.alloca_once(b, _ROW)
        b.store(_ZERO, total)
        with code.loop(first, last) as (k, _):
            place = b.sub(k, block)
            force = b.fmul(code.spread(b.load(b.gep(factor, [place]))), code.row(rows, place))
            b.store(b.fadd(b.load(total), force), total)
            j = code.index(s, k)
            code.set_row(out, j, b.fsub(code.row(out, j), force))
        code.set_row(out, i, b.fadd(code.row(out, i), b.load(total)))

    return _routine((d, s, sites, first, last, block, i, forces), body)


@intrinsic
def add_tensor(typing, d, s, count, tensor):
    """Add the sum over k of s[k] d[k] (x) d[k] to the rows of ``tensor`` (3, 4)."""

    def body(code):
        b = code.builder
        rows, factor, out = code.array(0), code.array(1), code.array(3)
        totals = [cgutils.alloca_once(b, _ROW) for _ in range(3)]
        for total in totals:
            b.store(_ZERO, total)
        with code.loop(code.integer(0), code.values[2]) as (k, _):
            row = code.row(rows, k)
            force = b.fmul(code.spread(b.load(b.gep(factor, [k]))), row)
            for lane, total in enumerate(totals):
                step = code.shuffle(row, row, [lane] * 4)
                b.store(code.fma(step, force, b.load(total)), total)
        for lane, total in enumerate(totals):
            place = code.integer(lane)
            code.set_row(out, place, b.fadd(code.row(out, place), b.load(total)))

    return _routine((d, s, count, tensor), body)


@intrinsic
def add_powers(typing, row, u, count, n_rows, moments):
    """Add 1, u, u^2, u^3 of each k < count to the row row[k] of one of ``moments`` (4, n_rows, 4).

    Four in turn, since an addition to the row of the last one would wait for it.
    """

    def body(code):
        b = code.builder
        index, values, out = code.array(0), code.array(1), code.array(4)
        with code.loop(code.integer(0), code.values[2]) as (k, _):
            x = code.spread(b.load(b.gep(values, [k])))
            first = code.shuffle(_ONE, x, [0, 4, 4, 4])
            second = code.shuffle(_ONE, x, [0, 0, 4, 4])
            third = code.shuffle(_ONE, x, [0, 0, 0, 4])
            powers = b.fmul(b.fmul(first, second), third)
            turn = b.mul(b.and_(k, code.integer(3)), code.values[3])
            m = b.add(turn, code.index(index, k))
            code.set_row(out, m, b.fadd(code.row(out, m), powers))

    return _routine((row, u, count, n_rows, moments), body)


@intrinsic
def append_close(typing, x, y, z, names, px, py, pz, first, last, limit, near, count):
    """Append names[k] to near[count:] where (x, y, z)[k] is closer than sqrt(limit) to a point.

    Returns the new count. Arrays x, y, z must go three entries beyond ``last``.
    """

    def body(code):
        b = code.builder
        columns = [code.array(n) for n in range(3)]
        point = [code.spread(code.values[n]) for n in range(4, 7)]
        name, out, last = code.array(3), code.array(10), code.values[8]
        limit = code.spread(code.values[9])
        count = cgutils.alloca_once(b, _INT)
        b.store(code.values[11], count)
        with code.loop(code.values[7], last, 4) as (k, _):
            steps = [b.fsub(code.four(column, k), p) for column, p in zip(columns, point)]
            total = b.fmul(steps[0], steps[0])
            for step in steps[1:]:
                total = code.fma(step, step, total)
            is_close = b.fcmp_ordered("<", total, limit)
            mask = b.zext(b.bitcast(is_close, ir.IntType(4)), _INT)
            left = b.sub(last, k)
            is_end = b.icmp_signed("<", left, code.integer(4))
            within = b.sub(b.shl(code.integer(1), left), code.integer(1))
            mask = b.select(is_end, b.and_(mask, within), mask)
            at = b.load(count)
            for lane in range(4):
                b.store(b.load(b.gep(name, [b.add(k, code.integer(lane))])), b.gep(out, [at]))
                at = b.add(at, b.and_(b.lshr(mask, code.integer(lane)), code.integer(1)))
            b.store(at, count)
        return b.load(count)

    arguments = (x, y, z, names, px, py, pz, first, last, limit, near, count)
    return _routine(arguments, body, types.int64)


@intrinsic
def append_shifted(typing, x, y, z, names, first, last, dx, dy, dz, to_x, to_y, to_z, to, count):
    """Copy entries first ... last - 1 of columns and names to ``count`` on, shifted by dx, dy, dz.

    All arrays must go three entries beyond what is read and written. Returns the new count.
    """

    def body(code):
        b = code.builder
        columns, targets = [[code.array(n + m) for n in range(3)] for m in (0, 9)]
        shifts = [code.spread(code.values[n]) for n in range(6, 9)]
        name, to, first, last = code.array(3), code.array(12), code.values[4], code.values[5]
        offset = b.sub(code.values[13], first)
        four_indices = ir.VectorType(ir.IntType(32), 4).as_pointer()
        with code.loop(first, last, 4) as (k, _):
            at = b.add(k, offset)
            for column, shift, target in zip(columns, shifts, targets):
                code.set_four(target, at, b.fadd(code.four(column, k), shift))
            value = b.load(b.bitcast(b.gep(name, [k]), four_indices))
            value.align = 4
            b.store(value, b.bitcast(b.gep(to, [at]), four_indices)).align = 4
        return b.add(offset, last)

    arguments = (x, y, z, names, first, last, dx, dy, dz, to_x, to_y, to_z, to, count)
    return _routine(arguments, body, types.int64)
