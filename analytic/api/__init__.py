"""The public interface in Python: the verbs of the command as functions, with the same words and defaults.

`import analytic` offers all of it. Amounts may be typed as people write them: `tokens="15T"`,
`gpus="512xh100=2.5"`, `seq_len="8k"`.
"""
