# The console as a web server: whom it lets in, and what it refuses.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Console;

run_console_tests('server');
