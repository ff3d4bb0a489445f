# Many queues and many messages in the console: what is read in slices and pieces is whole.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Console;

run_console_tests('many');
